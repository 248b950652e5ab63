"""What turns images into features that metrics compare: classifiers, Inception, LPIPS."""
