"""What we would like to do: strategies, and who calls them.

api        `BaseStrategy` and the `StrategyContext` it reads and orders through
events     what happened in the market, as strategies see it
market     guarded books, a message at a time, for those events
runner     one message at a time: engine, events, strategies, orders
examples   a market maker and a taker, each in two forms
"""
