"""Attention: what a model looked at, recorded while it runs and put on the scan's grid.

`tap` records, `tokens` knows where tokens lie, `maps` answers queries.
"""
