"""Our worlds and tasks in other libraries: GEM, OpenEnv, TRL and verifiers."""
