"""How good an embedding is: archives of known truth, made fast, and scores of any embedding of them."""
