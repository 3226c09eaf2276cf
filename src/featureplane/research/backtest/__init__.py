"""Backtests on the engine, plan and rules of research.

result     what a backtest found, and who notes it
replay     strategies over recorded events, with the paper venue
assets     a recording twice: rows for hftbacktest, events for us, and how their clocks lie
library    hftbacktest itself, which is optional, and a market made of it
venue      approved orders in, what hftbacktest made of them out
adapter    hftbacktest keeps clock, latencies, queue and fills; our book and features walk along
hft        strategies over recorded events through the adapter
comparison both forms of a strategy, decision by decision
columns    the frames of a recording as arrays that a numba strategy reads beside hftbacktest
"""
