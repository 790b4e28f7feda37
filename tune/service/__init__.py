"""Searches as jobs of a Ray cluster that a team shares: sent, watched, stopped, gone on with, brought back."""
