"""Concept Prompt, Save Concept, Load Concept: a concept in use."""
