"""Commands run by hand: make and prepare data, import published weights, measure speed."""
