//! A relay and a plane on loopback, in this process, and a client that says exactly what it is told.
