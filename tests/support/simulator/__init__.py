"""The product's simulator, watched: it writes every call down, loses answers on demand, plays what the vendor's pages
leave open both ways, and tells all that it knows under /simulator/.

Imports nothing of the tests, so that the image of the product can run it, too: `python -m support.simulator`.
Begin with `server`, which has the way of one call.
"""
