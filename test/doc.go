// Package test holds what is checked of the repository as a whole: the directions
// of imports, the purity of what decides, package docs. The lab, its guest and
// the end-to-end tests lie below. The product knows none of it.
package test
