document.getElementById('word').textContent = 'one'
