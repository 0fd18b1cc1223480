"""A bundle as one page of HTML: what it is, what was measured, and what one should know of it.

The page stands by itself: no script, no font, nothing loaded from anywhere. This part turns figures
into markup; it runs no network and reads no data set (see `edgetl._report`).
"""
