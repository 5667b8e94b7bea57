"""The site: pages of docs/, the reference made from the docstrings, the gallery made from the examples."""
