"""Who answers: the services and the chassis they all stand on."""
