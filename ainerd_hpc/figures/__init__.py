"""Figures for papers, drawn from the products of an archive, with the numbers that they show."""
