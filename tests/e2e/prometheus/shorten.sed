# alerts.yml with seconds in the place of minutes and hours, so that what takes a night is seen at once.
# Nothing else of it is changed.

# How long something must be so.
s/for: [1-9][0-9]*m$/for: 1s/
# How far two of them look back.
s/\[1h\]/[10s]/
s/offset 1h/offset 10s/
# For how long the shortest way between ticks is remembered; each second has a value.
s/\[1h:\]/[10s:1s]/
# How late a tick may be.
s/> 3600$/> 30/
