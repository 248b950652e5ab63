"""From files to tensors: toys, published sets, pictures and arrays of the user's, the cache of what was
decoded.
"""
