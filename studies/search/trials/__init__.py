"""What a trial is: a policy proposed, planned, evaluated and recorded."""
