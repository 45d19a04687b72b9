package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"time"

	"quorate/cluster/api/apipb"
)

//go:embed report.html
var reportPage string

// category is a section of the report.
type category struct {
	Name   string
	Checks []*apipb.Check
}

// writeReport writes a validation's report as one page that needs nothing else.
func writeReport(path string, r *apipb.Report, zone *time.Location) error {
	page, err := template.New("report").Parse(reportPage)
	if err != nil {
		return err
	}
	var categories []category
	for _, k := range r.Checks {
		if n := len(categories); n == 0 || categories[n-1].Name != k.Category {
			categories = append(categories, category{Name: k.Category})
		}
		last := &categories[len(categories)-1]
		last.Checks = append(last.Checks, k)
	}
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	defer f.Close()
	if err := page.Execute(f, map[string]any{
		"Report": r, "Categories": categories, "Summary": summary(r),
		"Began": time.UnixMilli(r.BeganMs).In(zone).Format("2006-01-02 15:04:05 MST"),
	}); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
