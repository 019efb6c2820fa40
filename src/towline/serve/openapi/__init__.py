"""What is served, described for people and programs: `/openapi.json` and `/docs`."""
