// Package query carries queries of an application's stores between its instances and to programs that are none, over HTTP.
//
//	Server   answers for one instance: its health, what it has, the rows of its stores. A source gives it the rows.
//	Client   asks one instance
//	Router   finds out which instance has a partition, asks those that have them, and merges what they answer
//
// Rows travel as they lie in the stores, in encoded bytes: one JSON object a line, the last of which says that there are no
// more. Whoever asks decodes them. Everything that comes from outside is bounded: the bytes of a request, the time to read
// it and to write an answer, the queries at a time, the bytes of a row.
package query
