"""What each command starts, a file a stage; torch and DALI are imported by the one that is asked for."""
