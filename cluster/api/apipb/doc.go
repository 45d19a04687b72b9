// Package apipb is the API's wire form, generated from api.proto: messages here,
// services in apipbconnect. Nothing is written here by hand.
package apipb
