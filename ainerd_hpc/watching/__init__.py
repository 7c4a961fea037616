"""Scans as they appear: taken up when they are finished, labelled, announced where they are unusual.

- `finished`: which scans are there, and which of them nobody writes any more
- `warming`: workers made ready before the first scan comes
- `taking`: the way of a few scans through the stages, on workers that stay
- `known`: what the archive knows, in memory, and what it says of a new scan
- `verdict`: whether a scan is of a known kind
- `told`: what was said of each scan: lines of `watch.jsonl`, a command to run
- `page`: the page that refreshes itself
- `watch`: the loop
"""
