"""An ordinary application, so that tests have rows which are not ours."""
