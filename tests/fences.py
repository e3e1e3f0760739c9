"""The circle and the polygon that Kumulos's pages print for a geofence, as GeoJSON."""

CIRCLE = {
    "type": "Feature",
    "properties": {"radius": 425},
    "geometry": {"type": "Point", "coordinates": [-73.9652551, 40.7827647]},
}
POLYGON = {
    "type": "Feature",
    "geometry": {
        "type": "Polygon",
        "coordinates": [
            [
                [-73.95815849304199, 40.80065354924362],
                [-73.98193359375, 40.76802920702854],
                [-73.97309303283691, 40.76432383634019],
                [-73.9493179321289, 40.796949998204596],
                [-73.95815849304199, 40.80065354924362],
            ]
        ],
    },
    "properties": {"orderAdded": [0, 1, 2, 3, 4], "markerLocation": [40.783102, -73.965074]},
}
