"""The demo: real scans and real text in official layouts, and the whole road on them."""
