"""Estimators of treatment effects, behind one protocol; see ``protocol``."""
