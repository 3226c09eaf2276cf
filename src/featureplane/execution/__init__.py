"""What we may do, and doing it.

    orders      what a strategy asks for, and what becomes of it
    limits      the risk limits, declared once
    risk        who may say yes: `RiskCheck.review`
    portfolio   positions and what they earned

Money is counted in integers (`execution.money`); an approved order is a type (`execution.approval`).
"""
