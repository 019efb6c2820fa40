"""Press a server: requests made ready, sent by processes of their own, and what came back counted."""
