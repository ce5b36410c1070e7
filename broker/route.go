package broker

// route is one row of the routing table: an API, the versions it is advertised and served in, and who serves it.
type route struct {
	key int16
	// min and max are the versions advertised by ApiVersions.
	min, max int16
	// acceptMin is the lowest version that is served; it differs from min only where clients look for a version that nobody
	// speaks any more (Produce).
	acceptMin int16
	// flexible is the first version with tagged fields, used by raw rows only; kmsg knows it for the others.
	flexible int16
	// raw rows decode request.raw themselves (the record path: no copy, counts bounded by the frame).
	raw   bool
	serve handler
}

// routes is the one table of what this broker speaks. Version ranges: what real clients test for, not only what they speak;
// the reasons are beside the handlers. Keys that are missing close the connection, as in Kafka.
func routes() []route {
	rows := []route{
		{key: 18, min: 0, max: 4, serve: serveAPIVersions},
	}
	rows = append(rows, coordinatorRoutes()...)
	return rows
}
