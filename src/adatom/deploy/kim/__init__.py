"""OpenKIM: a model driver, portable models, and a binding of the KIM API."""
