"""Guides of weight matrices beyond mean-field."""
