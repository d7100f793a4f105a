"""Tables in and out: reading, calendars, the forecast file, frames and pictures."""
