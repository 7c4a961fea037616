"""The work of the verbs that do more than a stage."""
