"""Answers: what recordings come to, as results. Pure functions; the same ones answer live questions and make reports."""
