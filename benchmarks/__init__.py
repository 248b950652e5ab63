"""How models are compared: suites, data on the device, the one training loop, the runner, the command line."""
