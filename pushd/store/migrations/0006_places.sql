-- Where devices are, and geofences.
SELECT 1;
