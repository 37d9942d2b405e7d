"""What starts stages or looks at the machine they run on."""
