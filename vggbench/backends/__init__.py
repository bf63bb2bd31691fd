"""What runs an artefact: the Protocols, the registry, one module per backend.

Backends import their library inside `availability` and `open`, never at module level.
"""
