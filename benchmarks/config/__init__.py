"""What is compared: suites as TOML, their schema and checks, equal compute, models of the user's."""
