"""Is a model of the user's what the contract asks for?"""
