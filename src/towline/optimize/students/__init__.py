"""Students: smaller graphs that answer what a version answers, narrowed from its own or drawn anew. No framework is loaded."""
