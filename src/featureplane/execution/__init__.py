"""What we may do, and doing it.

    orders      what a strategy asks for, and what becomes of it
    limits      the risk limits, declared once
    risk        who may say yes: `RiskCheck.review`
    portfolio   positions and what they earned
    venue       the port every venue stands behind
    venues      `paper`, a venue made of recorded or live market data

Money is counted in integers (`execution.money`); an approved order is a type (`execution.approval`).
"""
