"""Networks that turn images into features, which metrics compare: classifiers, published networks, LPIPS."""
