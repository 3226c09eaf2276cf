"""Two complete strategies, each in two forms that take the same decisions.

    market_maker   quotes both sides at the touch, leaves the side the flow runs into
    ofi_taker      follows order flow for a moment

They show how strategies are written, not how money is made.
"""
