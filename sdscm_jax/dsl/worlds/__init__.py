"""A unit in several worlds: interventions, abduction, counterfactuals."""
