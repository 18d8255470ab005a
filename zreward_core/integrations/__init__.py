"""The reward model inside other projects' trainers, a module for each; docs/integrations.md.

A module imports its trainer only where it subclasses one of its classes. Importing this package
imports nothing.
"""
