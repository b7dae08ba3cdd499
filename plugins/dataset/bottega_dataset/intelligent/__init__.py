"""Intelligent tasks (002 §2.4.1): automatic labeling, pre-labeling by a model of the user's, automatic grouping."""
