"""From files to tensors: toys, published datasets, the user's pictures and arrays, caches."""
