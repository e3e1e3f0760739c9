"""pushd: a self-hosted push-notification fan-out daemon."""
