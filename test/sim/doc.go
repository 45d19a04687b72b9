// Package sim is a simulator.
package sim
