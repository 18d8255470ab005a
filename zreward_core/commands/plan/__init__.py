"""`zreward plan`: memory, disk and hours of every stage, counted before anything is started."""
