"""The controller over HTTP: routes and their examples. The work is the other rooms'."""
