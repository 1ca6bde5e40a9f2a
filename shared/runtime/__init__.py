"""What every service process needs: settings, worker loop, HTTP app, telemetry, shutdown."""
