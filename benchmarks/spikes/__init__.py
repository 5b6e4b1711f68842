"""Ceilings: one job each in its barest true shape, without the framework; our own figures are held against them."""
